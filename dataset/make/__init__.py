"""Generator of synthetic catalogues: pictures, titles, users of several interests, purchases."""
