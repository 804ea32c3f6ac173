"""The simulated robot as a ROS 2 participant of its own: MuJoCo behind the topics and types of the real controllers.

python -m sim.ros2 configs/robots/arm7.yaml --task lift --seed 3
"""
