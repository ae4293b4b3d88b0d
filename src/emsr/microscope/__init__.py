"""What is before the beam, and how it is seen: a phantom of brain tissue, and a microscope."""
