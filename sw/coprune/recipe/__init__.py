"""Recipes: files that say how a network is pruned, trained and quantized, and what runs them."""

from coprune.recipe.methods import METHODS, Method
from coprune.recipe.pipeline import run_recipe
from coprune.recipe.recipe import Recipe, read_recipe

__all__ = ["METHODS", "Method", "Recipe", "read_recipe", "run_recipe"]
