# EOQ and the patched llama.cpp for CPUs: docs/install.md
FROM debian:bookworm-slim AS build
WORKDIR /eoq
COPY . .
RUN containers/build.sh /opt/package

FROM debian:bookworm-slim
COPY --from=build /opt/package /opt/package
RUN --mount=type=bind,from=build,source=/eoq,target=/eoq,rw cd /eoq && containers/install.sh /opt/package
ENV EOQ_CACHE=/cache HOME=/cache
VOLUME /cache
WORKDIR /work
USER eoq
ENTRYPOINT ["eoq-container"]
CMD ["--help"]
