"""A shop: models with every kind of primary key and manager, and functions that behave well and badly."""
