"""A built dataset looked at from outside: is it whole, keeps it to its contracts, would it train?"""
