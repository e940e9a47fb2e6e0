"""Side networks over hidden states that are computed once (IISAN)."""
