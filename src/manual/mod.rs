//! The manual: how to write an agent, test it, run it, and what happens inside.
//!
//! 1. [A first agent](first_agent)
//! 2. [Typed messages](typed_messages)
//! 3. [Slow work](slow_work)
//! 4. [Testing](testing)
//! 5. [HAProxy's configuration](configuration)
//! 6. [Choosing timeouts](timeouts)
//! 7. [Deploying](deploying)
//! 8. [How it works](how_it_works)
//! 9. [Coming from another library](moving)
//!
//! Every example in here is compiled, and those that can run are run, with the tests of the crate.

macro_rules! chapters {
    ($($name:ident),* $(,)?) => {$(
        #[doc = include_str!(concat!(stringify!($name), ".md"))]
        pub mod $name {}
    )*};
}

chapters! {
    first_agent,
    typed_messages,
    slow_work,
    testing,
    configuration,
    timeouts,
    deploying,
    how_it_works,
    moving,
}
