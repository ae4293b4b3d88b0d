"""What lies on disk: volumes and images, their grey values and spacing."""
