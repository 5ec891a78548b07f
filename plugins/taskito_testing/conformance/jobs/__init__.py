"""The suite's topics about stored jobs: what keeps them back, and what people do with them."""
