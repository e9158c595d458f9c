"""What a policy is written as: a room per format, none of which sees an algorithm."""
