"""The networks: a diffusers pipeline, the causal VAE, the sampler; no ROS, no camera."""
