//! How long the operations of the core take, by the clock: `cargo bench --bench core`, a part of them with
//! `cargo bench --bench core -- 'belief: name'`. The sizes in a name show how an operation grows.

mod operations;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use operations::Run;

fn core(criterion: &mut Criterion) {
    for operation in operations::all() {
        let mut group = criterion.benchmark_group(operation.name);
        for &size in operation.sizes {
            let mut run: Option<Run> = None;
            group.bench_function(
                BenchmarkId::from_parameter(format!("{size} {}", operation.among)),
                |bencher| {
                    let run = run.get_or_insert_with(|| (operation.prepare)(size));
                    bencher.iter(run);
                },
            );
        }
    }
}

criterion_group!(benches, core);
criterion_main!(benches);
