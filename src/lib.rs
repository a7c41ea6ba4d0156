//! An io_uring, thread-per-core SPOA server for HAProxy.
#![cfg_attr(not(any(feature = "std", test)), no_std)]

pub mod spop;
