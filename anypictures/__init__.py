"""Read labelled pictures, in whatever form people have them, as arrays: see README.md.

`anypictures.dataset.read_dataset` reads a folder, an archive, a table or arrays;
`anypictures.decoding` a single picture, and `anypictures.grids` draws what was read.
"""
