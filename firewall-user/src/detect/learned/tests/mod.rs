mod edges;
mod month;
mod traffic;
