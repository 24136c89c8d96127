"""Finding the plan that fits a budget: what every layer costs in every precision, what it damages there, and the best choice of all together."""
