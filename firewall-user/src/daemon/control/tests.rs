//! The endpoints over a real socket, with a fence whose thread has ended: what is wrong with a
//! request must show before the fence is asked.
