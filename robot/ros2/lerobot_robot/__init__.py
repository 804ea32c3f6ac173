"""A robot behind our bridge for LeRobot's own programs, which import this package.

lerobot-record --robot.discover_packages_path=robot.ros2.lerobot_robot --robot.type=vla_rl --robot.profile=PROFILE …
"""
