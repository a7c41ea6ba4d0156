//! Challenges and clearance tokens, from the first request to the last.
