"""Methods of the peft library, one adapter for each group."""
