//! The process that owns one running container.
mod client;
mod control;
mod health;
mod log;
mod log_line;
mod process_streams;
mod restart;
mod stop;
