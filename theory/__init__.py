"""What must hold: rank statements about composed maps, proved or refuted (never torch)."""
