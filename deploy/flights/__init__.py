"""The flights of 2013: will this flight arrive more than 15 minutes late?"""
