"""Lists of items over HTTP, with a page that shows them."""
