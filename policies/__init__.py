"""What a policy is: observation, action chunk, decision factors, normalisation, heads, folder format."""
