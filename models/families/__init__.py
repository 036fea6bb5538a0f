"""Model families: how a checkpoint becomes conditioning, one prediction and a decoded image, one file for each."""
