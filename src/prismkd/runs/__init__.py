"""A run: the models, plans, images and students of one configuration, in memory or with a folder."""
