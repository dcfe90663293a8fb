//! Everything widened to float32, one multiply-add per product: any element type, any level.

use super::super::span::{Spans, Table};
use super::{Band, Runs, Task, Unit, ask_for, by_rows, last};
use crate::kv::{Element, TILE};
use crate::level::Isa;
use crate::simd::{Kernel, LANES, Simd};

/// float32 queries and weights.
pub(in super::super) struct Wide;

impl<E: Element> Runs<E> for Wide {
    fn room(dim: usize, rows: usize) -> usize {
        Spans::<E, Self, f32>::room(dim, rows)
    }
    fn run(isa: Isa, task: Task<'_, E>) {
        isa.run(OnLevel(task));
    }
}

struct OnLevel<'a, E>(Task<'a, E>);

impl<E: Element> Kernel for OnLevel<'_, E> {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.0.go(s, |job, item, room| Spans::new(job, item, Wide, room));
    }
}

impl<S: Simd, E: Element> Unit<S, E> for Wide {
    type Number = f32;

    #[inline(always)]
    fn score(&mut self, s: S, band: &Band<'_, E, f32>, scores: &mut Table<f32>) {
        by_rows!(band.rows, |first, R| {
            let (mut tile, end) = (band.here.start, band.here.end);
            // With few rows, several tiles at a time hide the latency of the accumulation.
            while R <= 2 && tile + 4 <= end {
                score::<S, E, R, 4>(s, band, first, tile, scores);
                tile += 4;
            }
            while R <= 4 && tile + 2 <= end {
                score::<S, E, R, 2>(s, band, first, tile, scores);
                tile += 2;
            }
            while tile < end {
                score::<S, E, R, 1>(s, band, first, tile, scores);
                tile += 1;
            }
        });
    }

    #[inline(always)]
    fn accumulate(
        &mut self,
        s: S,
        band: &Band<'_, E, f32>,
        weights: &Table<f32>,
        values: &mut [[f32; LANES]],
    ) {
        let vectors = band.dim.div_ceil(LANES);
        by_rows!(band.rows, |first, R| {
            let mut vector = 0;
            // Few rows leave registers for more of the head dimension.
            while R == 1 && vector + 8 <= vectors {
                accumulate::<S, E, R, 8>(s, band, weights, [first, vector], values);
                vector += 8;
            }
            while R <= 4 && vector + 4 <= vectors {
                accumulate::<S, E, R, 4>(s, band, weights, [first, vector], values);
                vector += 4;
            }
            while vector + 2 <= vectors {
                accumulate::<S, E, R, 2>(s, band, weights, [first, vector], values);
                vector += 2;
            }
            if vector < vectors {
                accumulate::<S, E, R, 1>(s, band, weights, [first, vector], values);
            }
        });
    }
}

/// R rows × T tiles.
#[inline(always)]
fn score<S: Simd, E: Element, const R: usize, const T: usize>(
    s: S,
    band: &Band<'_, E, f32>,
    first: usize,
    tile: usize,
    scores: &mut Table<f32>,
) {
    let (pairs, stride) = (band.dim / 2, band.queries.len() / band.rows);
    let mut queries = [band.queries.as_chunks::<2>().0; R];
    for r in 0..R {
        queries[r] = &queries[r][last(first + r, band.rows) * stride / 2..][..pairs];
    }
    let mut keys = [band.tiles[tile].keys; T];
    for t in 0..T {
        keys[t] = &band.tiles[tile + t].keys[..pairs];
    }
    let mut acc = [[s.splat(0.0); T]; R];
    for i in 0..pairs {
        for t in 0..T {
            ask_for(R, band.next[tile + t].keys, i);
            let k = E::load(s, &keys[t][i]);
            for r in 0..R {
                acc[r][t] = s.fma(s.splat(queries[r][i][0]), k.0, acc[r][t]);
                acc[r][t] = s.fma(s.splat(queries[r][i][1]), k.1, acc[r][t]);
            }
        }
    }
    for r in 0..R {
        for t in 0..T {
            s.store(acc[r][t], &mut scores[first + r].as_chunks_mut().0[tile + t]);
        }
    }
}

/// R rows × C vectors of the head dimension.
#[inline(always)]
fn accumulate<S: Simd, E: Element, const R: usize, const C: usize>(
    s: S,
    band: &Band<'_, E, f32>,
    weights: &Table<f32>,
    [first, vector]: [usize; 2],
    values: &mut [[f32; LANES]],
) {
    let vectors = band.dim.div_ceil(LANES);
    let mut acc = [[s.splat(0.0); C]; R];
    for r in 0..R {
        for c in 0..C {
            acc[r][c] = s.load(&values[last(first + r, band.rows) * vectors + vector + c]);
        }
    }
    for t in band.here.clone() {
        for pair in 0..TILE / 2 {
            let row = &band.tiles[t].values[pair * vectors + vector..][..C];
            for c in 0..C {
                ask_for(R, band.next[t].values, pair * vectors + vector + c);
                let v = E::load(s, &row[c]);
                for r in 0..R {
                    let [even, odd] = weights[first + r].as_chunks().0[t * TILE / 2 + pair];
                    acc[r][c] = s.fma(s.splat(even), v.0, acc[r][c]);
                    acc[r][c] = s.fma(s.splat(odd), v.1, acc[r][c]);
                }
            }
        }
    }
    for r in 0..R.min(band.rows - first) {
        for c in 0..C {
            s.store(acc[r][c], &mut values[(first + r) * vectors + vector + c]);
        }
    }
}
