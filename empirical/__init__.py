"""What real networks do: tangents, spectra and ranks of torch models, on CPU or GPU."""
