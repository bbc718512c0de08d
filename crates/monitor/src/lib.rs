//! The process that owns one running container.
mod health;
mod log;
mod log_line;
mod restart;
mod stop;
