"""Documents of the IIIF Presentation API, 2.1 and 3.0. Pure: values in, plain dictionaries out."""
