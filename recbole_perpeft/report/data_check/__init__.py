"""What is in a data set and what will go wrong with it, before anything is trained."""
