.PHONY: build demo test bench clean

build:
	@tools/build

demo:
	@tools/demo

test:
	@tools/test

bench:
	@tools/bench

clean:
	rm -rf build build-*
