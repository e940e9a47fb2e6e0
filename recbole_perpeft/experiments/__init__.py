"""What compare and tune share: rows, runs beside one another, tables."""
