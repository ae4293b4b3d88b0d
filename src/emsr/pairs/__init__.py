"""What the network learns from: pairs of LR and HR fields, and the strategies that make them."""
