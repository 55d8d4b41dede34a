"""`information-flow`: along which routes a prediction is made."""
