"""The ROS 2 side of the robot: bridge, wire formats, images, and tools that look at the graph. Needs the `ros` extra."""
