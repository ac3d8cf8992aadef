"""Load generators and the report that `exitramp bench` writes; they import nothing of ours."""
