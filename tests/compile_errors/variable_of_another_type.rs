//~ says: mismatched types
//~ says: expected `i64`, found `&str`

use ringspoa::{Reply, Var};

const SCORE: Var<i64> = Var::txn("score");

pub fn answer(reply: &mut Reply<'_>) {
    let _ = reply.set(SCORE, "seven");
}

fn main() {}
