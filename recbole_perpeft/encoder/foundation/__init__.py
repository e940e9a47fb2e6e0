"""The frozen foundation model: loading, what it computes, and in which precision."""
