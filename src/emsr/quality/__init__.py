"""How good it is: fidelity, resolution, and the report that shows them."""
