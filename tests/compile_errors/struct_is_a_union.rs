//~ error: a message is a struct; for several messages, give a Router several structs
//~ at: Address

#[derive(ringspoa::Message)]
union Address {
    v4: u32,
    v6: u128,
}

fn main() {}
