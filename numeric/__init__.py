"""What holds exactly: certified ranks and properties of random small networks."""
