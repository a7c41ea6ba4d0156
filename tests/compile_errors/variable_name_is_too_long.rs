//~ says: a variable's scope and name take at most 61 bytes

use ringspoa::Var;

pub const SCORE: Var<i64> =
    Var::sess("a_score_that_says_in_its_name_all_there_is_to_say_about_it");

fn main() {}
