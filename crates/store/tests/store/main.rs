//! The store on disk: receiving, unpacking, records, collection, crashes; and other tools reading the layout in place.
//! As root: layers have owners. Every test runs with each form of layers.

mod directory;
mod erofs;
