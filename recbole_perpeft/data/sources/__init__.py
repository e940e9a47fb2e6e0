"""The data that people have, as RecBole's atomic files: one raw format a file, all of them named in ``registry``."""
