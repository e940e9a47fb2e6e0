"""What makes items alike for users: vectors of content to compare them by, and maps of these that groups go by."""
