// Numbers by fours.

// `first` and what follows it; past the last number below `end`, that one again.
fn four_from(first: u32, end: u32) -> vec4<u32> {
    return min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(end - 1u));
}
