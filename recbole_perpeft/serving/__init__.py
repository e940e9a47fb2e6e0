"""What was trained, put to use: lists for users, known and new."""
