"""The clinic as a callback of other trainers, one file each; a file needs its own library and no other."""
