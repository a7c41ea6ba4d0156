//! `ringspoa check`: every finding where it belongs and nothing else, silence where all is well, and
//! the word of the real HAProxy on both.

mod challenge;
mod cli;
mod fixture;
mod good;
mod mistakes;
mod table;
