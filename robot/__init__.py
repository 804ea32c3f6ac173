"""Deployment: a bundle and a robot profile become a runtime loop that reads, decides, limits and sends.

Not a safety function in the sense of ISO 10218, and no replacement for one. Imports neither torch nor training code.
"""
