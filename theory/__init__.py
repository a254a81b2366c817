"""What must hold: rank statements about composed maps, proved or refuted (no torch in this room)."""
