"""Training of the VAE and the diffusion transformer."""
